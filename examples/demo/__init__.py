"""`make demo`: the four operations on a real project tree, across kills, judged by a tool that is not ours."""
