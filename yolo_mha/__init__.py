"""Spatial multi-head attention for Ultralytics YOLO: insert safely, train, compare, ship.

Importing the package registers its blocks, so that model YAMLs may name them and checkpoints that hold them open.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module, metadata
from typing import TYPE_CHECKING

from .startup import AS_COMMAND  # isort: skip  (before PyTorch is imported)
from .errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DependencyError,
    DownloadError,
    ModelError,
    RegistrationError,
    RunError,
    UnsupportedTaskError,
    YoloMHAError,
)
from .nn import ConvBlock, CrossScaleMHA, MultiHeadAttention, S2Attention, SpatialMHA, SpatialMHABlock

try:
    from .registry import install, register
except DependencyError as e:  # Ultralytics is too old, so the command line, which is of this package, cannot say it
    if not AS_COMMAND:
        raise
    if "--json" in sys.argv:
        print(json.dumps({"error": e.as_dict()}, indent=2))
    print(f"error: {e}", file=sys.stderr)
    sys.exit(2)
from .result import Result
from .surgery import transfer as _transfer
from .surgery.insertion import Insertion
from .surgery.transfer import Transfer

if TYPE_CHECKING:
    from .cluster.ray_predict import BulkPrediction, predict_on_ray
    from .cluster.ray_runs import compare_on_ray
    from .cluster.single import SingleRun, train_run
    from .cluster.slurm import JobFiles, emit_jobs
    from .cluster.status import Status, comparison_status
    from .deploy.benchmark import benchmark
    from .deploy.benchmark_report import BenchmarkResult
    from .deploy.export import export
    from .deploy.export_result import ExportResult
    from .diagnosis.doctor import Diagnosis, doctor
    from .diagnosis.prepare import PreparedData, prepare_data
    from .engine.insert import Surgery, insert, remove
    from .engine.model import YOLO
    from .engine.predict import PredictResult, predict, track
    from .engine.train import TrainResult, train
    from .evaluation.compare import compare, estimate, run_recipe
    from .evaluation.comparison import Comparison
    from .evaluation.estimate import Estimate
    from .inspection.explain import Explanation, explain
    from .inspection.explore import explore
    from .inspection.faithfulness import Faithfulness, faithfulness
    from .inspection.heads import HeadRanking, heads
    from .inspection.prune import prune
    from .inspection.pruned import Pruned
    from .inspection.recorder import Recorder
    from .scoring.val import ValResult, val

install(_transfer.transfer)  # in every process that opens a checkpoint with blocks, as that imports the package

__version__ = metadata.version("yolo-mha")
# fmt: off
__all__ = [  # noqa: RUF022  (by job)
    "__version__",
    "YOLO", "insert", "remove", "Insertion", "Surgery", "Transfer", "register",  # models, and attention in them
    "SpatialMHABlock", "CrossScaleMHA", "S2Attention", "ConvBlock", "SpatialMHA", "MultiHeadAttention",  # blocks
    "prepare_data", "doctor", "train", "PreparedData", "Diagnosis", "TrainResult",  # before training, and training
    "val", "estimate", "compare", "run_recipe", "ValResult", "Estimate", "Comparison",  # what a model is worth
    "compare_on_ray", "predict_on_ray", "train_run", "comparison_status", "emit_jobs",  # on several machines
    "BulkPrediction", "SingleRun", "Status", "JobFiles",
    "explain", "faithfulness", "Explanation", "Faithfulness", "Recorder",  # where detections looked; is that true?
    "explore",  # the same on a page in the browser
    "heads", "prune", "HeadRanking", "Pruned",  # which heads matter; without the others
    "predict", "track", "export", "benchmark", "PredictResult", "ExportResult", "BenchmarkResult",  # use
    "Result", "YoloMHAError",  # what all results and all errors are
    "CheckpointError", "ConfigError", "DataError", "DependencyError", "DownloadError", "ModelError",
    "RegistrationError", "RunError", "UnsupportedTaskError",
]
# fmt: on

# Loaded when first used: unpickling a checkpoint imports this package and needs the blocks only.
_LAZY = {
    "cluster.ray_predict": ["BulkPrediction", "predict_on_ray"],
    "cluster.ray_runs": ["compare_on_ray"],
    "cluster.single": ["SingleRun", "train_run"],
    "cluster.slurm": ["JobFiles", "emit_jobs"],
    "cluster.status": ["Status", "comparison_status"],
    "deploy.benchmark": ["benchmark"],
    "deploy.benchmark_report": ["BenchmarkResult"],
    "deploy.export": ["export"],
    "deploy.export_result": ["ExportResult"],
    "diagnosis.doctor": ["Diagnosis", "doctor"],
    "diagnosis.prepare": ["PreparedData", "prepare_data"],
    "engine.insert": ["Surgery", "insert", "remove"],
    "engine.model": ["YOLO"],
    "engine.predict": ["PredictResult", "predict", "track"],
    "engine.train": ["TrainResult", "train"],
    "evaluation.compare": ["compare", "estimate", "run_recipe"],
    "evaluation.comparison": ["Comparison"],
    "evaluation.estimate": ["Estimate"],
    "inspection.explain": ["Explanation", "explain"],
    "inspection.explore": ["explore"],
    "inspection.faithfulness": ["Faithfulness", "faithfulness"],
    "inspection.heads": ["HeadRanking", "heads"],
    "inspection.prune": ["prune"],
    "inspection.pruned": ["Pruned"],
    "inspection.recorder": ["Recorder"],
    "scoring.val": ["ValResult", "val"],
}
_MODULES = {name: module for module, names in _LAZY.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value
