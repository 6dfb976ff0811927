"""The names of a record's fields on the wire, in the order in which they are written."""

NAME_FIELDS = ("src_app", "dest_app", "vpc_id")
BYTE_FIELDS = ("bytes_rx", "bytes_tx")
RECORD_FIELDS = (*NAME_FIELDS, "hour", *BYTE_FIELDS)
