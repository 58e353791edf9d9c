"""What answers tell the replica that they belong to. It knows neither."""

from typing import TYPE_CHECKING

from replicas.served.api_error import ApiError

if TYPE_CHECKING:
    from replicas.served.answer import Answer, Choice


class Watch:
    """What a replica does for its answers: books, cancellations, late tokens. All parts are called by `Answer` alone."""

    def on_first_token(self, choice: "Choice") -> None:
        raise NotImplementedError

    def on_end(self, choice: "Choice", now_s: float) -> None:
        raise NotImplementedError

    def on_gone(self, answer: "Answer") -> None:
        raise NotImplementedError

    def catch_up(self, choice: "Choice") -> None:
        raise NotImplementedError

    def fail(self, answer: "Answer", error: ApiError) -> None:
        raise NotImplementedError
