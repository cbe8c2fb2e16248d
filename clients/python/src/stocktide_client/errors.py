"""What fails. A class's docstring is its default message."""

from __future__ import annotations

import copyreg
from inspect import cleandoc
from typing import Any


class StocktideError(Exception):
    """Stocktide cannot do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(cleandoc(self.__doc__ or "") if message is None else message)

    def __reduce__(self) -> tuple[Any, ...]:
        # A process of a pool hands its errors on, whatever a class takes to make one.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class ApiError(StocktideError):
    """The API cannot be reached, refuses a call, or answers against the contract; the message says where and what.

    `status` is 0 without an answer. `code` is that of the problem, each is explained at `/problems/CODE` of the API;
    `path` names the wrong field. `problem` is the whole document, empty where there is none.
    """

    def __init__(self, message: str, status: int = 0, problem: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem or {}

    @property
    def code(self) -> str:
        """The problem's code; `no_answer` without an answer, and empty where the answer is no problem."""
        return str(self.problem.get("code", "" if self.status else "no_answer"))

    @property
    def detail(self) -> str:
        """What is wrong, in a sentence."""
        return str(self.problem.get("detail") or self)

    @property
    def path(self) -> str | None:
        """The wrong field of the request, the first if there are several."""
        errors = self.problem.get("errors")
        return str(errors[0].get("path")) if isinstance(errors, list) and errors else None


class NoApiResponse(ApiError):
    """One attempt got no response. `reason` is `timeout` or the name of the error's class; the cause has the rest."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
