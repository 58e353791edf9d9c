"""A refusal in the words of an OpenAI-compatible server. It does not know which engine speaks; its dialect gives it a shape."""


class ApiError(Exception):
    """`status` is the HTTP status, `kind` the error's `type`, `param` the field that it is about."""

    def __init__(self, status: int, message: str, kind: str = "", param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.kind = kind or KINDS.get(status, "InternalServerError")


KINDS = {
    400: "BadRequestError",
    404: "NotFoundError",
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}
