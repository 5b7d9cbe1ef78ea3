"""Object detection: boxes around the objects of each class."""

from backend.learners.detection.answers import BoxAnswers
from backend.learners.detection.detector import Detector, fit_detector
from backend.learners.detection.evaluation import evaluate_boxes

__all__ = ["BoxAnswers", "Detector", "evaluate_boxes", "fit_detector"]
