"""Face recognition: metric learning on stored embeddings, an open set of people, and what tells them apart."""

from backend.learners.faces.answers import FaceAnswers
from backend.learners.faces.crops import face_crops
from backend.learners.faces.evaluation import evaluate_faces
from backend.learners.faces.feature_report import FeatureReport, feature_report
from backend.learners.faces.recogniser import FaceRecogniser, fit_face_recogniser

__all__ = [
    "FaceAnswers",
    "FaceRecogniser",
    "FeatureReport",
    "evaluate_faces",
    "face_crops",
    "feature_report",
    "fit_face_recogniser",
]
