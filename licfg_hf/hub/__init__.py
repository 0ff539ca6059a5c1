"""Everything that goes to the Hugging Face Hub."""
