"""What the bucket holds about a workspace, who may write it, and what an archive proves: record, fence, proof."""
