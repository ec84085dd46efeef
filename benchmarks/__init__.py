"""What fedshard costs, measured: one command per question, results beside the code."""
