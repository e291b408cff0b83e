/*! Placeholder of the functions room. */
