// The protocol of docs/protocol.md for backends in JavaScript: `serve` speaks it on standard input
// and output, and what is printed goes to standard error.

import fs from "node:fs";

for (const name of ["log", "info", "debug"]) {
  console[name] = console.error;
}

/** The typed array of each dtype; those of 16 bits that JavaScript has not are their bits. */
const KINDS = {
  bool: Uint8Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
  float16: Uint16Array, bfloat16: Uint16Array, float32: Float32Array, float64: Float64Array,
};

/** What the framework has not: a layer, an option, a mode, a device. */
export class Unsupported extends Error {}

function read(size) {
  const data = Buffer.alloc(size);
  for (let have = 0; have < size; ) {
    const got = fs.readSync(0, data, have, size - have);
    if (!got) {
      process.exit(0); // the suite has closed the connection
    }
    have += got;
  }
  return data;
}

function write(data) {
  for (let done = 0; done < data.length; ) {
    done += fs.writeSync(1, data, done);
  }
}

function receive() {
  const header = JSON.parse(read(Number(read(8).readBigUInt64LE())).toString("utf8"));
  header.arrays = header.arrays.map(({ dtype, shape }) => {
    const kind = KINDS[dtype];
    const count = shape.reduce((product, size) => product * size, 1);
    const { buffer, byteOffset } = read(count * kind.BYTES_PER_ELEMENT);
    const end = byteOffset + count * kind.BYTES_PER_ELEMENT;
    return { dtype, shape, values: new kind(buffer.slice(byteOffset, end)) };
  });
  return header;
}

function send(header, arrays = []) {
  const forms = arrays.map(({ dtype, shape }) => ({ dtype, shape }));
  const text = Buffer.from(JSON.stringify({ ...header, arrays: forms }), "utf8");
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const bytes = arrays.map(({ values }) =>
    Buffer.from(values.buffer, values.byteOffset, values.byteLength));
  write(Buffer.concat([length, text, ...bytes]));
}

/**
 * Answer requests until the suite closes the connection.
 *
 * `answers` has a function, which may be async, for each request that is answered. It is given the
 * header, with the arrays in it as `{ dtype, shape, values }`, and returns the fields of the
 * answer, with arrays likewise. What it throws is the framework's exception, or `Unsupported`.
 */
export async function serve(answers) {
  for (;;) {
    const request = receive();
    const { id, ask } = request;
    try {
      if (!(ask in answers)) {
        throw new Unsupported(`${ask} is not answered`);
      }
      const { arrays, ...fields } = (await answers[ask](request)) ?? {};
      send({ id, status: "ok", ...fields }, arrays);
    } catch (error) {
      const message = String(error?.message ?? error);
      const raised = { type: error?.name ?? "Error", message, traceback: error?.stack ?? "" };
      const declined = error instanceof Unsupported;
      send({ id, ...(declined ? { status: "unsupported", message } : { status: "exception", ...raised }) });
    }
  }
}
