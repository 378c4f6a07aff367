"""What the bucket says of a workspace, who may write it, and what an archive proves: record, fence, proof."""
