"""The answers so far, which placebo cells a judged one is held against, and the detector's false alarms. It runs no cell."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from flows.probe.evidence import calm_course
from flows.probe.run_cell import CALM, slack_of
from flows.run_folder import RunFolder
from flows.study import Study
from reports.bands import bands
from reports.course import Course
from reports.probe.asks import PLACEBO, Answer, Ask
from reports.verdict import false_alarm

Place = tuple[str, str, str, float]


def place_of(ask: Ask) -> Place:
    """What cells that are calm alike share."""
    return ask.router, ask.guard, ask.variant, ask.load_rps


class Heard:
    """All answers, sorted by ask: what is made of them does not depend on the order in which they came."""

    def __init__(self, study: Study, folder: RunFolder) -> None:
        self._slack, self._folder = slack_of(study), folder
        self._calm: dict[Place, list[Answer]] = defaultdict(list)
        self._courses: dict[str, Course] = {}
        self.answers: list[Answer] = []

    @property
    def cpu_s(self) -> float:
        """CPU seconds that the cells took when they were made."""
        return sum(answer.cpu_s for answer in self.answers)

    def calm_cells(self, ask: Ask) -> tuple[str, ...]:
        """The ids of the undisturbed cells of the ask's arm and load; none for an ask that is not judged."""
        if ask.phase == PLACEBO or ask.pieces:
            return ()
        return tuple(sorted(answer.cell_id for answer in self._calm[place_of(ask)] if answer.verdict == CALM))

    def add(self, answers: Iterable[Answer]) -> None:
        """Take a round's answers in; placebo cells are then judged by the other seeds of their arm and load."""
        changed: set[Place] = set()
        for answer in answers:
            self.answers.append(answer)
            if answer.ask.phase == PLACEBO:
                self._calm[place_of(answer.ask)].append(answer)
                changed.add(place_of(answer.ask))
        for place in changed:
            self._judge(place)
        alarms = {answer.ask: answer for place in changed for answer in self._calm[place]}
        self.answers = sorted((alarms.get(answer.ask, answer) for answer in self.answers), key=lambda answer: answer.ask)

    def _judge(self, place: Place) -> None:
        calm = [answer for answer in self._calm[place] if answer.verdict == CALM]
        courses = {answer.cell_id: self._course(answer) for answer in calm}
        for i, answer in enumerate(self._calm[place]):
            others = [course for cell_id, course in courses.items() if cell_id != answer.cell_id]
            judged = answer.cell_id in courses and others
            alarm = false_alarm(courses[answer.cell_id], bands(others, self._slack)) if judged else None
            self._calm[place][i] = replace(answer, false_alarm=alarm)

    def _course(self, answer: Answer) -> Course:
        if answer.cell_id not in self._courses:
            self._courses[answer.cell_id] = calm_course(self._folder.path / answer.evidence)
        return self._courses[answer.cell_id]
