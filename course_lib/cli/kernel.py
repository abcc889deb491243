"""Running a notebook with papermill, without a race that lets it wait for ever (nbclient, issue 312).

While a figure is drawn inside a widget, nbclient sends messages on the very socket on which it waits for the cell's
reply. Sending swallows the signal that something has come: a reply that arrives in this moment is never noticed.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from nbclient.output_widget import OutputWidget
from papermill import execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

if TYPE_CHECKING:
    from nbformat import NotebookNode


class _Output(OutputWidget):
    """Looks after each message that it has sent whether something has come meanwhile."""

    def send(self, *args: Any, **kwargs: Any) -> None:
        super().send(*args, **kwargs)
        self.kernel_client.shell_channel.socket.get(zmq.EVENTS)


class _Client(PapermillNotebookClient):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.widget_registry["@jupyter-widgets/output"]["OutputModel"] = _Output


class _Engine(NBClientEngine):
    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        start_timeout: int,
        execution_timeout: int | None,
        extra_arguments: list[str],
        **_: Any,  # what papermill passes to every engine
    ) -> Any:
        waits = {"startup_timeout": start_timeout, "timeout": execution_timeout}
        return _Client(nb_man, kernel_name=kernel_name, extra_arguments=extra_arguments, **waits).execute()


papermill_engines.register("course", _Engine)


def execute(
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    *,
    timeout: int | None,
    kernel: str = "python3",
    bar: dict[str, Any] | bool = False,
) -> "NotebookNode":
    """Run the notebook `source` in the folder of `target`, and write it there.

    Args:
        source: the notebook.
        target: the finished one.
        parameters: for its parameter cell.
        timeout: seconds that a cell may take; None for any number.
        kernel: Jupyter's name of it.
        bar: what papermill calls `progress_bar`.

    Raises:
        papermill.PapermillExecutionError: a cell failed.
        nbclient.exceptions.CellTimeoutError, DeadKernelError: a cell took too long, or its kernel ended.
    """
    return execute_notebook(
        source,
        target,
        parameters=parameters,
        engine_name="course",
        kernel_name=kernel,
        cwd=target.parent,
        progress_bar=bar,
        start_timeout=120,
        execution_timeout=timeout,
        extra_arguments=["--log-level=ERROR"],  # else each kernel warns that loopback is not encrypted
    )
