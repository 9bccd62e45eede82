"""What one training run reserves where it has to be reserved: on a cluster."""

from __future__ import annotations

from pydantic import Field

from ciranda.config.shape import Duration, Part


class Reserved(Part):
    """What one run takes of a cluster (`executor: ray` or `kubernetes`); on this machine a run takes what there is."""

    cpus: int = Field(1, ge=1, le=1024, description="Processors of one run, and its threads.")
    memory_gb: float = Field(
        4.0, gt=0, le=16384, description="Memory of one run; on Kubernetes more than that ends it."
    )
    gpus: int = Field(0, ge=0, le=16, description="Accelerators of one run.")
    timeout: Duration = Field(86400.0, gt=0, description="A run that takes longer is ended.")
