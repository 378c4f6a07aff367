"""`make demo`: the four operations on a real project tree, judged by a tool that is not ours."""
