"""A training run from beginning to end: what `cb train` calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from cb_core.checkpoint import Checkpoint, load_checkpoint
from cb_core.models import load_starting_checkpoint
from cb_core.provenance import code_commit
from cb_core.registry import get_model_info
from cb_core.tracking.recorder import start_experiment
from cb_core.tracking.sinks import RunDescription, check_sinks
from cb_core.training.accelerator import make_accelerator
from cb_core.training.config import (
    Hyperparameters,
    RunConfig,
    hyperparameters_from_dict,
    hyperparameters_on_resume,
)
from cb_core.training.data import Splits, class_warnings, open_splits
from cb_core.training.loop import EpochStatistics, Trainer
from cb_core.training.metrics import ValidationMetrics
from cb_core.training.model_choice import ModelChoice, choose_model, create_chosen_model
from cb_core.training.optimization import head_parameter_names, learning_rates
from cb_core.training.record import BEST, LAST, RunRecord
from cb_core.training.report import EpochReport, TrainingResult
from cb_core.training.sampling import derived_seed
from cb_core.training.state import RunState, check_same_conditions, restore, run_state
from cb_runtime.contract import Decoding, ModelMetadata
from cb_runtime.errors import UsageError
from cb_runtime.files import check_writable
from cb_runtime.interruption import sigterm_as_interrupt
from cb_runtime.progress import Progress, no_progress

Warn = Callable[[str], None]


def _ignore(_: object) -> None:
    """Take what nobody asked to hear."""


def train(
    config: RunConfig,
    *,
    progress: Progress = no_progress,
    on_epoch: Callable[[EpochReport], None] = _ignore,
    warn: Warn = _ignore,
) -> TrainingResult:
    """Train a model and leave `best.pt`, `last.pt` and golden samples in the run's folder.

    The experiment's row is written before the first step and kept in step with the run, whatever ends it.

    Args:
        config: What to train, on what, where.
        progress: Told about pairs trained on and validation batches.
        on_epoch: Called after each epoch, by the main process.
        warn: Called with one sentence for each thing the user should know.

    Raises:
        UsageError: Options that cannot be obeyed, or that differ from the run that is resumed.
        InputError: A dataset that cannot be used.
        StorageError: The run's folder cannot be written, or a disk is full.
        ModelError: An unknown architecture, a damaged checkpoint, or a loss that is no longer a number.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the row says `interrupted`.
    """
    with sigterm_as_interrupt():
        run = _prepare(config, warn)
        try:
            message = _epochs(run, progress, on_epoch)
        except KeyboardInterrupt:
            run.end("interrupted", f"Interrupted in epoch {run.state.epoch + 1}. Continue with --resume.")
            raise
        except BaseException as error:
            run.end("failed", f"{type(error).__name__}: {error}")
            raise
        run.end("finished", message)
    return _result(run, message)


@dataclass
class _Run:
    """A run that is about to start or to go on."""

    config: RunConfig
    settings: Hyperparameters
    accelerator: Accelerator
    splits: Splits
    choice: ModelChoice
    metadata: ModelMetadata
    checkpoint: Checkpoint | None
    """Where the stopped run was that goes on."""
    origin: Checkpoint | None
    """Whose weights a new run begins with."""
    state: RunState
    record: RunRecord | None
    """None in all processes but the main one."""
    warn: Warn
    started: float

    def end(self, status: str, message: str) -> None:
        if self.record is not None:
            self.record.end(status, message)


def _prepare(config: RunConfig, warn: Warn) -> _Run:
    started = time.monotonic()
    checkpoint = _stopped_run(config, warn)
    check_sinks(config.trackers)
    origin = None if checkpoint is not None else _origin(config)
    choice = choose_model(config, checkpoint or origin)
    settings = _settings(config, checkpoint, choice)
    accelerator = make_accelerator(settings, config.device)
    splits = open_splits(config.dataset, choice, settings)
    begun = checkpoint or origin
    metadata = splits.metadata(choice, code_commit(), begun.metadata.decoding if begun else Decoding())
    state = RunState()
    if checkpoint is not None:
        check_same_conditions(checkpoint, accelerator.mixed_precision, metadata.dataset_digest)
        state = run_state(checkpoint)
    run = _Run(config, settings, accelerator, splits, choice, metadata, checkpoint, origin, state, None, warn, started)
    if accelerator.is_main_process:
        check_writable(config.folder)
        run.record = _start_record(run)
    return run


def _stopped_run(config: RunConfig, warn: Warn) -> Checkpoint | None:
    last = config.folder / LAST
    if config.resume and last.is_file():
        checkpoint = load_checkpoint(last)
        run_state(checkpoint)
        return checkpoint
    if config.resume:
        warn(f"There is no {last} to resume from: training starts at the beginning.")
    elif last.is_file() or (config.folder / BEST).is_file():
        raise UsageError(
            f"{config.folder} holds a run already. Continue it with --resume, or choose another --name or --output."
        )
    return None


def _origin(config: RunConfig) -> Checkpoint | None:
    place = config.hyperparameters.get("start_from")
    return None if place is None else load_starting_checkpoint(place)


def _settings(config: RunConfig, checkpoint: Checkpoint | None, choice: ModelChoice) -> Hyperparameters:
    if checkpoint is None:
        suited = hyperparameters_from_dict(get_model_info(choice.architecture_name).hyperparameters)
        return hyperparameters_from_dict(config.hyperparameters, suited)
    assert checkpoint.training_state is not None, "_stopped_run has checked it"
    return hyperparameters_on_resume(checkpoint.training_state["hyperparameters"], config.hyperparameters)


def _start_record(run: _Run) -> RunRecord:
    metadata, settings = run.metadata, run.settings
    recorder = start_experiment(
        run.config.dataset,
        run.warn,
        resume=run.state.history if run.config.resume else None,
        name=run.config.name,
        architecture_name=metadata.architecture_name,
        model_config=dict(metadata.model_config),
        hyperparameters=settings.to_dict(),
        fontclip_model_version=metadata.fontclip_model_version,
        git_commit=metadata.git_commit,
        dataset_digest=metadata.dataset_digest,
        **run.state.to_columns(),
    )
    return RunRecord(run.config.folder, metadata, run.splits, settings.to_dict(), recorder)


def _epochs(run: _Run, progress: Progress, on_epoch: Callable[[EpochReport], None]) -> str:
    """Train until a reason to stop; return the reason."""
    trainer = _make_trainer(run)
    durations: list[float] = []
    while (reason := _reason_to_stop(run, durations)) is None:
        begun = time.monotonic()
        statistics = trainer.train_epoch(run.state.epoch + 1, progress)
        metrics = trainer.validate(progress)
        rates = learning_rates(trainer.optimizer)
        trainer.schedule.after_epoch(metrics.macro_f1)
        entry = {"epoch": run.state.epoch + 1, "train_loss": statistics.loss, **metrics.to_dict()}
        entry |= {"learning_rate": rates, "samples_per_second": statistics.samples_per_second}
        entry |= {"data_wait_share": statistics.data_wait_share, "seconds": time.monotonic() - begun}
        is_best = run.state.add_epoch(entry, metrics)
        if run.record is not None:
            run.record.epoch_done(run.state, trainer, is_best=is_best)
        durations.append(time.monotonic() - begun)
        if run.record is not None:
            on_epoch(_report(run, statistics, metrics, durations, is_best=is_best))
    return reason


def _make_trainer(run: _Run) -> Trainer:
    torch.manual_seed(derived_seed(run.settings.seed, "initial weights"))
    architecture = create_chosen_model(run.choice, run.checkpoint or run.origin)
    for warning in (*class_warnings(run.splits), *_head_warnings(architecture)):
        run.warn(warning)
    trainer = Trainer(
        architecture, run.metadata.preprocessing, run.splits, run.settings, run.accelerator, run.config.workers
    )
    if run.checkpoint is not None:
        restore(run.checkpoint, trainer)
    if run.record is not None:
        run.record.complete_golden_samples(trainer)
        run.record.open_sinks(run.config.trackers, _description(run), run.warn)
    return trainer


def _head_warnings(architecture: torch.nn.Module) -> list[str]:
    if head_parameter_names(architecture):
        return []
    return [
        f"{type(architecture).__name__} names no head (a LateFusion classifier, or modules spatial_proj, font_proj, "
        "fusion_mlp), so --head-learning-rate has no effect: everything is trained at --learning-rate."
    ]


def _description(run: _Run) -> RunDescription:
    return RunDescription(
        name=run.config.name,
        folder=run.config.folder,
        architecture_name=run.choice.architecture_name,
        model_config=run.choice.model_config,
        hyperparameters=run.settings.to_dict(),
        dataset=run.metadata.dataset_name or "",
        git_commit=run.metadata.git_commit,
    )


def _reason_to_stop(run: _Run, durations: list[float]) -> str | None:
    settings, state = run.settings, run.state
    if state.epoch >= settings.epochs:
        return f"All {settings.epochs} epochs are done."
    if settings.patience and state.epochs_since_better_f1 >= settings.patience:
        return f"Macro F1 did not get better for {settings.patience} epochs."
    if settings.max_minutes is not None and durations:
        expected = torch.tensor(time.monotonic() - run.started + durations[-1], device=run.accelerator.device)
        # All processes must decide alike, or those that go on wait for the others for ever.
        if run.accelerator.reduce(expected, reduction="mean").item() > 60 * settings.max_minutes:
            return f"Another epoch would not fit into {settings.max_minutes:g} minutes."
    return None


def _report(
    run: _Run, statistics: EpochStatistics, metrics: ValidationMetrics, durations: list[float], *, is_best: bool
) -> EpochReport:
    left = (run.settings.epochs - run.state.epoch) * sum(durations) / len(durations)
    return EpochReport(run.state.epoch, run.settings.epochs, statistics, metrics, is_best, durations[-1], left)


def _result(run: _Run, message: str) -> TrainingResult:
    state = run.state
    assert state.best_epoch is not None
    assert state.best_f1 is not None
    assert state.best_accuracy is not None, "an epoch was done: epochs is at least 1"
    return TrainingResult(
        name=run.config.name,
        status="finished",
        message=message,
        epochs_done=state.epoch,
        best_epoch=state.best_epoch,
        best_val_f1=state.best_f1,
        best_val_accuracy=state.best_accuracy,
        best_checkpoint=run.config.folder / BEST,
        last_checkpoint=run.config.folder / LAST,
        device=str(run.accelerator.device),
        precision=run.accelerator.mixed_precision,
    )
