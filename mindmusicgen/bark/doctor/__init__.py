"""What `mindmusicgen doctor` asks of the tiny Bark in this package: each stage against golden values."""
