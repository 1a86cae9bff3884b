"""Sit at the wheel: a local page on which an episode is driven, rewound, edited and shown by one world or another."""
