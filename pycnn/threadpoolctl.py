"""pycnn's threads in threadpoolctl, the tool that limits the thread pools of native libraries.

>>> import pycnn.threadpoolctl
>>> pycnn.threadpoolctl.register()
>>> from threadpoolctl import threadpool_limits
>>> with threadpool_limits(1, user_api="pycnn"):
...     pycnn.get_num_threads()
1

It takes this call because threadpoolctl has no way to find its controllers, and ``import pycnn``
does not import it. Needs threadpoolctl 3.2 or later.
"""

from __future__ import annotations

from functools import cache

import threadpoolctl

import pycnn


class PycnnController(threadpoolctl.LibController):
    """Shows pycnn's threads and limits those of the calling thread."""

    user_api = "pycnn"
    internal_api = "pycnn"
    # The file's name alone would fit other libraries, too; the functions tell ours from them.
    filename_prefixes = ("_engine.",)
    check_symbols = ("pycnn_get_num_threads", "pycnn_limit_num_threads")

    def get_num_threads(self) -> int:
        """Return the most threads that a call from this thread uses."""
        n: int = self.dynlib.pycnn_get_num_threads()
        return n

    def set_num_threads(self, num_threads: int) -> None:
        """Limit this thread's calls, as the block of `pycnn.config.threads` does."""
        self.dynlib.pycnn_limit_num_threads(num_threads)

    def get_version(self) -> str:
        """Return the version of pycnn."""
        return pycnn.__version__


@cache
def register() -> None:
    """Let threadpoolctl see and limit pycnn's threads; a second call changes nothing.

    After it `threadpoolctl.threadpool_info` lists pycnn, and `threadpoolctl.threadpool_limits`
    limits pycnn's calls from the thread that asks, the way `pycnn.config.threads` does.
    """
    threadpoolctl.register(PycnnController)
