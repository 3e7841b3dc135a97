"""What `mindmusicgen doctor` asks of a tiny MusicLDM: each network, and ten steps, against golden values."""
