"""What a chat sends beyond its messages: templates and their variables, tools, and the bodies of responses."""
