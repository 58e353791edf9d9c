"""What a fault's measurement yields: rows with a number, and the claim it was held against. It runs nothing."""

from dataclasses import dataclass

from routers.gateways.process import GatewayProcess


@dataclass(frozen=True, slots=True)
class Measured:
    """One number. `claim` says in words what the fault predicts of it; `reproduced` is None where it predicts nothing.

    `value` may be inf (a time that never came), which JSON cannot hold and Parquet can.
    """

    fault: str
    gateway: str
    version: str
    policy: str
    arm: str
    quantity: str
    value: float
    unit: str
    claim: str = ""
    reproduced: bool | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """The fault and the running gateway that a number is about."""

    fault: str
    process: GatewayProcess

    def found(self, quantity: str, value: float, unit: str, claim: str = "", holds: bool | None = None) -> Measured:
        """A row; `holds` is whether the claim holds for `value`."""
        gateway, spec = self.process.gateway, self.process.spec
        policy = gateway.reported_policy(spec)
        return Measured(
            self.fault, gateway.name, self.process.version, policy, spec.arm, quantity, round(value, 6), unit, claim, holds
        )
