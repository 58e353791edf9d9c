"""The host of one engine: schedules each step, prepares it and launches its kernels, one after another. It knows no scheduler.

While it launches, results wait. A step may be scheduled while the GPU still works on the one before (asynchronous scheduling):
what the host does for it is hidden then, and shows only after a launch that took the host longer than the GPU.
"""

from replicas.profile import StepTime
from workloads.draws import Draws, purpose_id

_LAUNCH = Draws(purpose_id("engine-launch"))


class Host:
    """`scheduled_s` is when the step under way was scheduled (where none is scheduled ahead: when it began), `launched_s` when it
    was launched, until when the results of the one before it wait. `head_start`: its launch began before that
    one was over, so that it seems shorter than the like of it that follow."""

    __slots__ = ("_prefilled", "_step", "head_start", "launched_s", "scheduled_s")

    def __init__(self, step: StepTime) -> None:
        self._step = step
        self.scheduled_s = self.launched_s = 0.0
        self.head_start = False
        self._prefilled = False  # the step under way holds prefills

    def decodes(self, now_s: float, sequences: int, gpu_s: float, slope_s: float) -> tuple[float, float, float]:
        """When a decode step begins that follows one ending now, how long it takes, and how much more each one after it.

        The GPU works `gpu_s` on it and `slope_s` more on each later one.
        """
        step = self._step
        prepare_s = step.host_s + step.host_sequence_s * sequences
        ready_s = self.scheduled_s + prepare_s
        begun_s = ready_s if ready_s > now_s else now_s
        self.launched_s = launched_s = ready_s + step.launch_s(0, sequences)
        self._prefilled = self.head_start = False
        if launched_s > begun_s + gpu_s:  # the host is slower than the GPU
            self.head_start = self.scheduled_s < now_s
            return now_s, launched_s - now_s, 0.0
        return (begun_s, gpu_s, slope_s) if gpu_s >= prepare_s else (begun_s, prepare_s, 0.0)

    def prefills_s(self, now_s: float, tokens: int, chunks: int, decodes: int, gpu_s: float, try_id: int, serial: bool) -> float:
        """Seconds of a step with `tokens` of prefill in `chunks` sequences beside `decodes`, on which the GPU works `gpu_s`.

        `try_id` is the first one's, whose launch is as long as its draw says. `serial`: of two such steps in a row, the second is
        prepared only when the first is over.
        """
        step = self._step
        launch_s = step.launch_s(tokens, decodes)
        if step.launch_spread:
            launch_s *= 1.0 + step.launch_spread * (2.0 * _LAUNCH.uniform(try_id) - 1.0)
        if serial and self._prefilled:
            self.scheduled_s = now_s
        ready_s = self.scheduled_s + step.host_s + step.host_sequence_s * (decodes + chunks)
        self.launched_s = launched_s = ready_s + launch_s
        self._prefilled, self.head_start = True, False
        return max(max(ready_s, now_s) + gpu_s, launched_s) - now_s
