"""One page before hours of training."""

from .page import Diagnosis, doctor

__all__ = ["Diagnosis", "doctor"]
