"""The Label Studio ML backend for active learning."""

import os

# OpenMP's threads spin while they wait for each other, which on cores that other processes use as well makes a
# short computation several times slower. It must be known before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
