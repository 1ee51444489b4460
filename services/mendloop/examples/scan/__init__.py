"""SCAN (Lake & Baroni 2018, arXiv:1711.00350): commands in a small grammar, translated into action sequences."""
