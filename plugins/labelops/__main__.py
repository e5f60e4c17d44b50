"""``python -m labelops <verb>``: the program ``labelops``, where its script is not on the path."""

from labelops.commands import main

if __name__ == "__main__":
    raise SystemExit(main())
