"""One module or package per backend; a client library is imported only by its own driver."""
