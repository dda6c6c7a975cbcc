"""Measures of a classifier on labeled images: all classes together, and each class against the others."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional import classification

OVERALL = ("accuracy", "balanced_accuracy", "auc", "auprc", "f1")
OF_A_CLASS = ("recall", "auc", "auprc", "f1")


def classification_measures(scores: Tensor, labels: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """Return accuracy, balanced accuracy, area under the ROC and the precision-recall curve, and F1.

    The last four are means over the classes that have images; the value of one class against the others is called
    ``auc/<class>``, and ``recall/<class>`` is the share of its images that are recognized.

    Args:
        scores: logits (N, classes); the highest is the decision.
        labels: int64 (N,); two classes or more occur.
        class_names: in the order of the labels.
    """
    count = len(class_names)
    scores, labels = scores.double().softmax(dim=1), labels.long()
    decisions = scores.argmax(dim=1)
    settings: Any = {"num_classes": count, "average": None, "validate_args": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes without images, which are left out below
        by_class: dict[str, Tensor] = {
            "recall": classification.multiclass_recall(decisions, labels, **settings),
            "auc": classification.multiclass_auroc(scores, labels, **settings),
            "auprc": classification.multiclass_average_precision(scores, labels, **settings),
            "f1": classification.multiclass_f1_score(decisions, labels, **settings),
        }
    present = torch.bincount(labels, minlength=count) > 0
    means = {name: values[present].mean().item() for name, values in by_class.items()}
    overall = {
        "accuracy": (decisions == labels).double().mean().item(),
        "balanced_accuracy": means["recall"],
        **{name: means[name] for name in ("auc", "auprc", "f1")},
    }
    known = [number for number in range(count) if present[number]]
    return overall | {f"{name}/{class_names[n]}": values[n].item() for name, values in by_class.items() for n in known}
