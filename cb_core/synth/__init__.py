"""Renders captioned videos with exact ground truth: Pillow draws text, OpenCV composes, PyAV encodes.

`cb_core.synth.collection.render_videos` is the way in. This package imports nothing by itself, so that commands start
fast.
"""
