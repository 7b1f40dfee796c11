"""What a machine has that decides which artifact of a package runs on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cb_runtime.errors import CbError
from cb_runtime.gpus import Gpu, list_gpus
from cb_runtime.trt.flavours import FLAVOURS, flavour_version
from cb_runtime.trt.sidecar import EngineRecord, this_platform


@dataclass(frozen=True)
class Machine:
    """A machine, this one or one that a test describes."""

    platform: str
    """Operating system and processor, as in sidecars."""
    gpus: tuple[Gpu, ...] = ()
    """NVIDIA GPUs, by index."""
    releases: Mapping[str, str] = field(default_factory=dict)
    """Flavour of TensorRT that works here, by name, to its release."""

    def lacks(self, record: EngineRecord, gpus: Sequence[Gpu]) -> str | None:
        """Return why an engine runs on none of some GPUs of this machine; None when it runs on one of them."""
        if record.platform != self.platform:
            return f"built on {record.platform}, this is {self.platform}"
        release = self.releases.get(record.flavour)
        if release is None:
            return f"{record.family.title} is not installed here, or does not work: see `cb doctor`"
        if not record.runs_on_release(release):
            return f"built by {record.family.title} {record.tensorrt_version}, here is {release}"
        if not any(record.fits(gpu) for gpu in gpus):
            here = ", ".join(gpu.compute_capability for gpu in gpus)
            return f"built for compute capability {', '.join(record.compute_capabilities)}, here is {here}"
        return None


def this_machine() -> Machine:
    """Describe this machine. TensorRT is imported where there is a GPU that it could run on, and nowhere else."""
    gpus = list_gpus()
    return Machine(this_platform(), gpus, dict(_releases()) if gpus else {})


def _releases() -> list[tuple[str, str]]:
    found = []
    for name, flavour in FLAVOURS.items():
        if not flavour.is_installed:
            continue
        try:
            found.append((name, flavour_version(flavour)))
        except CbError:  # `cb doctor` tells why; here it only means that its engines cannot be opened
            continue
    return found
