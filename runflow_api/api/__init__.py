"""The Runflow API: records, transport, client."""
