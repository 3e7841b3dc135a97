"""The web page: a thin client of the jobs that the command line runs. `studio.py` does the work and knows no page,
`sessions.py` keeps what a visitor has made, `texts.py` has the words, `fields.py` the fields, `app.py` puts them
together with Gradio, and `serve.py` lets others see it.

Supported Platforms:
    ``Ascend`` ``CPU``
"""
