"""With how many threads networks compute, on a machine that seems to have four cores."""

from collections.abc import Callable

import torch
from threadpoolctl import threadpool_limits
from torch.nn.modules.module import register_module_forward_pre_hook


def threads_seen(look: Callable[[], object]) -> set[int]:
    """The numbers of threads of all layers that compute in this thread while it looks."""
    seen: set[int] = set()
    torch.get_num_threads()  # a thread's own number is set when it is first asked for
    hook = register_module_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    try:
        with threadpool_limits(4, user_api="openmp"):
            look()
    finally:
        hook.remove()
    return seen
