"""Tiny ONNX models and synthetic videos whose captions are bright blocks, so that spans are predictable end to end."""

from fractions import Fraction

import av
import numpy as np
import onnx
import onnx.parser

from cb_runtime.backends import METADATA_KEY
from cb_runtime.contract import ModelMetadata

EMPTY, CAPTION, OTHER = 20, 200, 120
"""Brightness of the caption region without a caption, with one, and with another one."""

# A frame shows a caption when its strip is brighter than 70; two captions are the same when no more than 15 apart.
GRAPH = """
<ir_version: 9, opset_import: ["" : 20]>
tiny (uint8[{batch},48,480,3] ocr_viz, uint8[{batch},48,480,3] frame1, uint8[{batch},48,480,3] frame2,
      float[{batch},{spatial}] spatial_features, float[{batch},512] font_embedding) => (float[{batch},5] logits)
<int64[3] image_axes = {{1, 2, 3}}, int64[1] vector_axis = {{1}}, float bar = {{70.0}}, float ten = {{10.0}},
 float apart = {{15.0}}, float three = {{3.0}}, float least = {{-5.0}}, float most = {{5.0}}, float tiny = {{1e-9}}>
{{
    float1 = Cast<to = 1>(frame1)
    float2 = Cast<to = 1>(frame2)
    picture = Cast<to = 1>(ocr_viz)
    light1 = ReduceMean<keepdims = 0>(float1, image_axes)
    light2 = ReduceMean<keepdims = 0>(float2, image_axes)
    over1 = Sub(light1, bar)
    over2 = Sub(light2, bar)
    scaled1 = Div(over1, ten)
    scaled2 = Div(over2, ten)
    shown1 = Clip(scaled1, least, most)
    shown2 = Clip(scaled2, least, most)
    step = Sub(light1, light2)
    size = Abs(step)
    beyond = Sub(size, apart)
    scaled = Div(beyond, three)
    changed = Clip(scaled, least, most)
    both = Add(shown1, shown2)
    same = Sub(both, changed)
    different = Add(both, changed)
    empty_empty = Neg(both)
    empty_valid = Sub(shown2, shown1)
    valid_empty = Sub(shown1, shown2)
    columns = Concat<axis = 0>({columns})
    raw = Transpose<perm = [1, 0]>(columns)
    sum1 = ReduceMean<keepdims = 1>(spatial_features, vector_axis)
    sum2 = ReduceMean<keepdims = 1>(font_embedding, vector_axis)
    sum3 = ReduceMean<keepdims = 0>(picture, image_axes)
    sum4 = Unsqueeze(sum3, vector_axis)
    sums = Sum(sum1, sum2, sum4)
    trace = Mul(sums, tiny)
    logits = Add(raw, trace)
}}
"""
LABEL_ROWS = ("same", "different", "empty_empty", "empty_valid", "valid_empty")


def tiny_model(path, metadata=None, *, batch="batch", spatial=6, metadata_json=None, with_metadata=True):
    """Write a model that decides by brightness; returns its path."""
    zero = "int64[1] first_axis = {0}, "
    rows = [f"row_{name} = Unsqueeze({name}, first_axis)" for name in LABEL_ROWS]
    text = GRAPH.format(batch=batch, spatial=spatial, columns=", ".join(f"row_{name}" for name in LABEL_ROWS))
    text = text.replace("<int64[3] image_axes", f"<{zero}int64[3] image_axes")
    text = text.replace("    columns = ", "".join(f"    {row}\n" for row in rows) + "    columns = ")
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    if with_metadata:
        plain = metadata_json or (metadata or ModelMetadata("tiny")).to_json()
        onnx.helper.set_model_props(model, {METADATA_KEY: plain})
    onnx.save(model, path)
    return path


def strips_of(levels):
    """Return one flat strip per brightness."""
    return [np.full((48, 480, 3), level, np.uint8) for level in levels]


REGION = (32, 96, 288, 128)
"""Caption region of the synthetic videos, left, top, right, bottom."""

REGION_TEXT = ",".join(map(str, REGION))


def bright_video(path, levels, rate=25):
    """Write a 320 x 160 video whose caption region has the given brightness, one per frame; returns its path."""
    left, top, right, bottom = REGION
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"crf": "12", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 160, "yuv420p"
        for level in levels:
            image = np.full((160, 320, 3), 60, np.uint8)
            image[top:bottom, left:right] = level
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def levels_of(*runs):
    """Return brightness per frame from `(level, frames)` runs."""
    return [level for level, frames in runs for _ in range(frames)]
