"""What every hook of ours is: one connection of Airflow as one client, made on first use."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from airflow.sdk import BaseHook

from include.base.errors import LabelopsError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from include.systems.http import RetryPolicy

__all__ = ["ClientHook"]


class _Checked(Protocol):
    def check(self) -> str:
        """Return a sentence that says what was reached; raise what is wrong."""


Client = TypeVar("Client", bound=_Checked)


class ClientHook(BaseHook, Generic[Client]):
    """Gives the client of one outside system.

    :param conn_id: the Airflow connection.
    :param policy: how often and how patiently a request is tried.
    """

    conn_name_attr: ClassVar[str]
    unusable: ClassVar[str] = "{}: the connection cannot be used"
    """What the form shows of an error that is none of ours, by the error's type: its text may hold a secret."""

    def __init__(self, conn_id: str, policy: RetryPolicy | None = None) -> None:
        super().__init__()
        setattr(self, self.conn_name_attr, conn_id)
        self._conn_id = conn_id
        self._policy = policy
        self._client: Client | None = None

    @abstractmethod
    def made_from(self, connection: Connection) -> Client:
        """Return the client of a connection."""

    def get_conn(self) -> Client:
        """Return the client, made on first use; nothing is sent or opened.

        :raises InvalidInput: a connection field is missing, or has a value that is not allowed.
        """
        if self._client is None:
            self._client = self.made_from(self.get_connection(self._conn_id))
        return self._client

    async def aget_conn(self) -> Client:
        """Do as :meth:`get_conn`, for a trigger: the connection is looked up without holding up the event loop."""
        if self._client is None:
            self._client = self.made_from(await self.aget_connection(self._conn_id))
        return self._client

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the system can be used, and a sentence that says as whom, or what is wrong."""
        try:
            return True, self.get_conn().check()
        except LabelopsError as error:
            return False, str(error)
        except Exception as error:  # the form shows whatever went wrong
            return False, self.unusable.format(type(error).__name__)
