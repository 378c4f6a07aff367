"""A short script on boto3 with the CRT, as somebody writes it who wants speed: `python bench/crt.py put BUCKET KEY`.

`put` streams standard input, `get` writes to standard output. Runs where the other peers are installed. Bytes go by
boto3's own threads, and only the checksums are the CRT's: its client (awscrt 0.38) sends no body that it cannot seek
in, and boto3 1.44 lets it talk to TLS alone.
"""

import sys

import boto3

if __name__ == "__main__":
    operation, bucket, key = sys.argv[1:]
    client = boto3.client("s3")
    if operation == "put":
        client.upload_fileobj(sys.stdin.buffer, bucket, key)
    else:
        client.download_fileobj(bucket, key, sys.stdout.buffer)
