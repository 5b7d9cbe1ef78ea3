"""Semantic segmentation: which class each pixel of an image is of."""

from backend.learners.segmentation.answers import MaskAnswers
from backend.learners.segmentation.evaluation import evaluate_masks
from backend.learners.segmentation.rendering import label_map
from backend.learners.segmentation.segmenter import Segmenter, fit_segmenter

__all__ = ["MaskAnswers", "Segmenter", "evaluate_masks", "fit_segmenter", "label_map"]
