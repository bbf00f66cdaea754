"""What a job produced, in the bodies of its route: whole, or as the events of a stream."""
