"""What every program here runs on: the device, compiled graphs, files that appear whole, interruptions, messages."""
