// A file of the API for the reader to keep: a link could not send the key.

/** Saves the answer of a call as a file of this name. Throws a StocktideError. */
export async function download({ client }, path, options, name) {
  const answer = await client.http.call("GET", path, options);
  const address = URL.createObjectURL(await answer.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  // The browser has begun to read it.
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
