"""`cb train`: from a dataset to a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cb_core.training.config import BALANCES, DEVICES, PRECISIONS, SCHEDULES, Hyperparameters, RunConfig
from cb_core.training.config import mapping_from_text as _mapping_from_text
from cb_runtime.cli.console import Report, reporting
from cb_runtime.errors import UsageError, require

if TYPE_CHECKING:
    from cb_core.training.report import TrainingResult

_DEFAULT = Hyperparameters()


def _default(name: str) -> str:
    return f"[default: {getattr(_DEFAULT, name)}]"


def _rate(name: str) -> str:
    return f"[default: what suits the architecture, mostly {getattr(_DEFAULT, name)}]"


@reporting("train")
@click.argument("dataset")
@click.option("--name", required=True, help="Name of the experiment.")
@click.option("--architecture", help="Which architecture to train; `cb models` lists them.")
@click.option("--model-config", metavar="JSON|FILE", help="Options of the architecture.")
@click.option(
    "--pretrained",
    metavar="[PATH]",
    is_flag=False,
    flag_value="true",
    help="Start from ImageNet weights, or from the weights in PATH (model_config.pretrained).",
)
@click.option("--no-pretrained", is_flag=True, help="Start from random weights, fetch nothing.")
@click.option(
    "--start-from",
    metavar="CHECKPOINT",
    help="Begin with a .pt file's model and weights, or with `default`, the model in the box.",
)
@click.option("--hyperparameters", metavar="JSON|FILE", help="Any hyperparameters; options given by name win.")
@click.option("--epochs", type=int, help=f"Passes over the training split at most. {_default('epochs')}")
@click.option("--batch-size", type=int, help=f"Pairs per step on each device. {_default('batch_size')}")
@click.option("--accumulation", type=int, help=f"Steps per change of the weights. {_default('accumulation')}")
@click.option("--learning-rate", type=float, help=f"Peak rate of the features. {_rate('learning_rate')}")
@click.option("--head-learning-rate", type=float, help=f"Peak rate of the head. {_rate('head_learning_rate')}")
@click.option("--schedule", type=click.Choice(SCHEDULES), help=f"Course of the rates. {_default('schedule')}")
@click.option("--balance", type=click.Choice(BALANCES), help=f"Where rare classes count more. {_default('balance')}")
@click.option("--augment/--no-augment", default=None, help="Alter training pictures, or not. [default: augment]")
@click.option(
    "--share-frames/--no-share-frames",
    default=None,
    help="Take pairs together that share frames, and encode each once (late fusion). [default: share]",
)
@click.option(
    "--auxiliary-weight",
    type=float,
    help=f"Also learn where captions are in single frames (late fusion). {_default('auxiliary_weight')}",
)
@click.option(
    "--hard-pairs",
    type=float,
    help=f"Share of an epoch's pairs that were got wrong when last seen. {_default('hard_pairs')}",
)
@click.option("--patience", type=int, help=f"Stop after so many epochs without a better F1. {_default('patience')}")
@click.option("--max-minutes", type=float, help="Stop before an epoch that would end later.")
@click.option("--precision", type=click.Choice(PRECISIONS), help=f"Arithmetic. {_default('precision')}")
@click.option("--seed", type=int, help=f"Decides everything random. {_default('seed')}")
@click.option("--use-font-embedding/--no-font-embedding", default=None, help="Show the dataset's font embeddings. [no]")
@click.option("--ocr-viz-variant", help="How OCR boxes are drawn. [default: as in the dataset]")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder. [default: runs/NAME]")
@click.option("--tracker", "trackers", multiple=True, help="Mirror to tensorboard, wandb or mlflow; repeatable.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to train.")
@click.option("--workers", type=int, help="Processes that prepare batches. [default: by the number of cores]")
@click.option("--plugin", "plugins", multiple=True, help="Python file that registers architectures; repeatable.")
@click.option("--resume", is_flag=True, help="Go on where a stopped run of this name was, with its settings.")
def train(report: Report, dataset: str, plugins: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Train a model on DATASET, an SQLite file or URL made by `cb dataset create`.

    Leaves best.pt, last.pt and best.golden.npz in the output folder, and the experiment in DATASET.
    """
    config = _config(dataset, options)
    for module in ("torch", "accelerate", "torchmetrics", "sqlalchemy"):
        require(module)
    from cb_core.registry import load_plugin
    from cb_core.training.run import train as run_training

    for plugin in plugins:
        load_plugin(plugin)
    with report.progress("pairs") as progress:
        result = run_training(
            config, progress=progress, on_epoch=lambda epoch: report.print(str(epoch)), warn=report.warn
        )
    if os.environ.get("RANK", "0") == "0":  # under `accelerate launch` the first process speaks for all
        report.print(_summary(result))
        report.result(result.to_dict())


def _config(dataset: str, options: dict[str, Any]) -> RunConfig:
    model_config = _mapping_from_text("--model-config", options.pop("model_config"))
    _set_pretrained(model_config, options.pop("pretrained"), none=options.pop("no_pretrained"))
    hyperparameters = _mapping_from_text("--hyperparameters", options.pop("hyperparameters"))
    named = {name: options.pop(name) for name in Hyperparameters.__dataclass_fields__ if name in options}
    hyperparameters |= {name: value for name, value in named.items() if value is not None}
    options["architecture_name"] = options.pop("architecture")
    return RunConfig(dataset=dataset, model_config=model_config, hyperparameters=hyperparameters, **options)


def _set_pretrained(model_config: dict[str, Any], pretrained: str | None, *, none: bool) -> None:
    if pretrained is not None and none:
        raise UsageError("--pretrained and --no-pretrained contradict each other. Give one of them.")
    if pretrained is None and not none:
        return
    value = False if none else {"true": True}.get(str(pretrained), pretrained)
    if model_config.setdefault("pretrained", value) != value:
        raise UsageError(
            f"--model-config says pretrained={model_config['pretrained']!r}, the option says {value!r}. "
            "Give one of them."
        )


def _summary(result: TrainingResult) -> str:
    return (
        f"{result.message} Best: epoch {result.best_epoch}, macro F1 {result.best_val_f1:.4f}, accuracy "
        f"{result.best_val_accuracy:.4f} ({result.device}, precision {result.precision}).\n{result.best_checkpoint}"
    )
