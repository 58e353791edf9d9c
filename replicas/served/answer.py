"""An answer on its way back: one choice a prompt, as chunks while tokens come or whole at the end. It decides no time.

Every token that is out goes into one chunk of its own, unless several are out at once (a late loop, a client that did not
read): then they share one, as with real engines.
"""

import json
import time
from typing import Any

from replicas.sequence import Sequence, State
from replicas.served.api_error import ApiError
from replicas.served.ask import Ask
from replicas.served.connection import Connection
from replicas.served.made_up import Ids
from replicas.served.stop import Stop
from replicas.served.tokens import Tokens
from replicas.served.watch import Watch

DONE = b"data: [DONE]\n\n"


class Choice:
    """What follows one prompt (a `Listener` of the engine's clock). `cut`: characters of the text up to a stop, or None."""

    __slots__ = (
        "answer",
        "connection",
        "cut",
        "encoded",
        "ended_s",
        "failed",
        "first_s",
        "frame",
        "ids",
        "index",
        "over",
        "plain",
        "said",
        "scheduled_s",
        "sent",
        "sequence",
        "stop",
        "streaming",
        "submitted_s",
        "text_sent",
        "with_ids",
        "write",
    )

    def __init__(self, answer: "Answer", index: int, sequence: Sequence, ids: Ids, stop: Stop | None, now_s: float) -> None:
        self.answer, self.index, self.sequence = answer, index, sequence
        self.ids: list[int] = ids.tolist()
        self.stop = stop
        self.cut = None if stop is None else stop.characters
        self.streaming = answer.ask.stream
        self.submitted_s = now_s
        self.scheduled_s: float | None = None
        self.first_s: float | None = None
        self.ended_s: float | None = None
        self.said = ""  # where each chunk repeats it all
        self.sent = self.text_sent = 0
        self.over = self.failed = False
        self.connection, self.write, self.encoded = answer.connection, answer.connection.writer(), answer.encoded
        self.with_ids = answer.ask.with_ids
        self.plain = self.streaming and stop is None and not answer.ask.usage_always and answer.connection.framed
        self.frame = answer.plain_frame(index)

    def on_first_token(self, now_s: float) -> None:
        self.first_s = now_s
        self.answer.on_first_token(self)

    def on_tokens(self, generated: int) -> None:
        sent = self.sent
        if not (self.plain and sent and generated == sent + 1 and self.connection.reading):
            self.answer.on_tokens(self, generated)
            return
        # One more token of a stream in which nothing else changes: the same bytes as `Answer` would make, sooner.
        token_id = self.ids[sent]
        word = self.encoded.get(token_id) or self._encode(token_id)
        before, after, size = self.frame
        if self.with_ids:
            after = after % token_id
        self.write(b"%x\r\n%b %b%b" % (len(word) + len(after) + size, before, word, after))
        self.sent = generated

    def on_end(self, now_s: float) -> None:
        self.over, self.ended_s = True, now_s
        self.failed = self.sequence.state != State.FINISHED
        self.answer.on_end(self, now_s)

    def _encode(self, token_id: int) -> bytes:
        word = self.encoded[token_id] = self.answer.tokens.word(token_id).encode()
        return word

    @property
    def finish_reason(self) -> str:
        return "length" if self.stop is None else "stop"

    def text(self, upto: int) -> str:
        """Text of the tokens from the last that were sent up to `upto`."""
        tokens = self.answer.tokens
        words = [tokens.word(i) for i in self.ids[self.sent : upto]]
        if not words:
            return ""
        text = (" " if self.sent else tokens.lead) + " ".join(words)
        if self.cut is not None:
            text = text[: max(0, self.cut - self.text_sent)]
            self.text_sent += len(text)
        return text


class Answer:
    """The answer to one `Ask`, over one connection (its `Responder`); `watch` hears what becomes of it."""

    def __init__(
        self,
        ask: Ask,
        connection: Connection,
        tokens: Tokens,
        model: str,
        request_id: str,
        prompts: tuple[Ids, ...],
        watch: Watch,
    ) -> None:
        self.ask, self.tokens = ask, tokens
        self.choices: list[Choice] = []
        self.encoded: dict[int, bytes] = {}  # words as they go over the wire
        self.connection, self._watch, self._prompts = connection, watch, prompts
        self.request_id, self._model, self._created = request_id, model, int(time.time())
        self._open = True
        kind = "chat.completion" if ask.chat else "text_completion"
        self._object = f"{kind}.chunk" if ask.chat and ask.stream else kind
        head = {"id": self.request_id, "object": self._object, "created": self._created, "model": model}
        self._begun = False
        self._head = f"data: {json.dumps(head, separators=(',', ':'))[:-1]},"
        self._closing = '"finish_reason":null}]}\n\n'

    # What the engine's clock tells, through the choices ---------------------------------------------------------------

    def on_first_token(self, choice: Choice) -> None:
        self._watch.on_first_token(choice)

    def on_tokens(self, choice: Choice, generated: int) -> None:
        if self.connection.reading and self._open:
            self.connection.write(self._begin() + self._frames(choice, generated, False))

    def on_end(self, choice: Choice, now_s: float) -> None:
        if not self._open:
            return
        self._watch.on_end(choice, now_s)
        if choice.failed:
            self._watch.fail(self, ApiError(choice.sequence.status, "The request was dropped by the engine."))
        elif not self.ask.stream:
            if all(c.over for c in self.choices):
                self.connection.respond(200, json.dumps(self._whole()).encode())
                self._close()
        elif self.connection.reading:
            self._end_choice(choice)

    # What the connection tells ----------------------------------------------------------------------------------------

    def on_gone(self) -> None:
        self._watch.on_gone(self)
        self._close()

    def on_reading(self) -> None:
        """The client reads again: it gets all that came meanwhile, in one chunk a choice."""
        for choice in self.choices:
            if not self._open or not self.ask.stream:
                return
            if choice.over:
                self._end_choice(choice)
            else:
                self._watch.catch_up(choice)

    # Endings ----------------------------------------------------------------------------------------------------------

    def refuse(self, error: dict[str, Any], status: int) -> None:
        """The engine would not take it, or lost it. A stream is refused inside itself: HTTP 200, an error event, the end."""
        body = json.dumps(error).encode()
        if self.ask.stream:
            frame = self.connection.frame
            self.connection.end_stream(self._begin() + frame(b"data: " + body + b"\n\n") + frame(DONE))
        else:
            self.connection.respond(status, body)
        self._close()

    def _close(self) -> None:
        """It is over, and leaves no cycles for the garbage collector."""
        self._open = False
        self.choices.clear()

    def _end_choice(self, choice: Choice) -> None:
        """The last tokens of a choice, and the end of the stream with the last choice."""
        data = self._begin()
        if choice.sent < choice.sequence.generated:
            data += self._frames(choice, choice.sequence.generated, True)
        if any(c.sent < c.sequence.generated or not c.over for c in self.choices):
            self.connection.write(data)
            return
        frame = self.connection.frame
        if self.ask.with_usage:
            event = f'{self._head}"choices":[],"usage":{json.dumps(self._usage())}}}\n\n'
            data += frame(event.encode())
        self.connection.end_stream(data + frame(DONE))
        self._close()

    # Chunks -----------------------------------------------------------------------------------------------------------

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self.connection.begin_stream()

    def _frames(self, choice: Choice, upto: int, last: bool) -> bytes:
        """The chunk of the tokens up to `upto`; a chat's first one says who speaks before."""
        made, text = choice.ids[choice.sent : upto], choice.text(upto)
        opening = b""
        if self.ask.chat:
            if not choice.sent:
                opening = self._event(choice, '"delta":{"role":"assistant","content":""},"logprobs":null', False, None)
            content = f'"delta":{{"content":"{text}"}},"logprobs":null'
        else:
            content = f'"text":"{text}","logprobs":null'
        choice.sent = upto
        return opening + self._event(choice, content, last, made if self.ask.with_ids else None)

    def _event(self, choice: Choice, content: str, last: bool, made: list[int] | None) -> bytes:
        ask = self.ask
        if not last and made is None and not ask.usage_always:
            event = f'{self._head}"choices":[{{"index":{choice.index},{content},{self._closing}'
            return self.connection.frame(event.encode())
        reason = f'"{choice.finish_reason}"' if last else "null"
        stop = json.dumps(choice.stop.reason) if last and choice.stop is not None else "null"
        ids = "" if made is None else f',"token_ids":{json.dumps(made)}'
        usage = f',"usage":{json.dumps(self._usage())}' if ask.usage_always else ""
        closing = f'"finish_reason":{reason},"stop_reason":{stop}{ids}}}]{usage}}}\n\n'
        return self.connection.frame(f'{self._head}"choices":[{{"index":{choice.index},{content},{closing}'.encode())

    def plain_frame(self, index: int) -> tuple[bytes, bytes, int]:
        """What stands around the space and the word of an ordinary chunk, and the bytes that are always there beside the word and
        what follows it (the frame's own line end does not count)."""
        what = '"delta":{"content":"' if self.ask.chat else '"text":"'
        before = f'{self._head}"choices":[{{"index":{index},{what}'.encode()
        text_ends = '"}' if self.ask.chat else '"'
        ends = ',"stop_reason":null,"token_ids":[%d]' if self.ask.with_ids else ""
        after = f'{text_ends},"logprobs":null,"finish_reason":null{ends}}}]}}\n\n\r\n'.encode()
        return before, after, len(before) + 1 - 2

    def _usage(self) -> dict[str, Any]:
        """Tokens as the engine counted them; of a stream under way, what was sent."""
        prompt = sum(c.sequence.prompt_tokens for c in self.choices)
        made = sum(c.sent if self.ask.stream else c.sequence.generated for c in self.choices)
        cached = sum(c.sequence.cached_tokens for c in self.choices)
        details = {"cached_tokens": cached}
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + made,
            "completion_tokens": made,
            "prompt_tokens_details": details,
        }

    def _whole(self) -> Any:
        return {
            "id": self.request_id,
            "object": self._object,
            "created": self._created,
            "model": self._model,
            "choices": [self._whole_choice(choice) for choice in self.choices],
            "usage": self._usage(),
        }

    def _whole_choice(self, choice: Choice) -> dict[str, Any]:
        made = choice.sequence.generated
        text = choice.text(made)
        ask = self.ask
        content = {"message": {"role": "assistant", "content": text}} if ask.chat else {"text": text}
        ids = {"token_ids": choice.ids[:made], "prompt_token_ids": self._prompts[choice.index].tolist()} if ask.with_ids else {}
        reason = choice.stop.reason if choice.stop is not None else None
        ends = {"logprobs": None, "finish_reason": choice.finish_reason, "stop_reason": reason}
        return {"index": choice.index, **content, **ends, **ids}
