"""Finding pictures that a collection holds more than once: exact copies, edited copies, look-alikes."""
