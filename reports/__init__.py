"""The answers: verdict records and the reports made from them alone."""
