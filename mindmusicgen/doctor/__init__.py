"""`mindmusicgen doctor`: what is installed, whether it computes what it should, how fast, and a report to send on."""
