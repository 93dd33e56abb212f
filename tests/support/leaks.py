"""What a test left behind."""

import asyncio


async def assert_no_task_is_left():
    """Every task but this one ends by itself, soon."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, pending = await asyncio.wait(others, timeout=2)
        assert not pending, f"still running: {pending}"
