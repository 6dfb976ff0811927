"""From a decoded batch to its acknowledgement: admission, committer, journal."""
