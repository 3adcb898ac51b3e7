// Python source that runs an expression of TensorFlow.js by a Node of its own.

const list = (names) => names.join(", ");

/**
 * The source of a script that evaluates an expression of arrays of these names, of which the last
 * may be `upstream`, on a backend of TensorFlow.js, and sets what the suite reads.
 */
export function source(expression, names, backend, imports) {
  const back = names.includes("upstream");
  const set = back ? 'gradients = dict(zip(["input", *weights], found))' : "y = found[0]";
  return `\
# in the folder where npm has installed it, or with NODE_PATH
import base64, json, subprocess

program = r"""
${imports.join("\n")}
const kinds = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };
const given = JSON.parse(require("fs").readFileSync(0));
const [${list(names)}] = ${JSON.stringify(names)}.map((name) => {
  const { dtype, shape, data } = given[name];
  const bytes = Uint8Array.from(Buffer.from(data, "base64"));
  return () => tf.tensor(new kinds[dtype](bytes.buffer), shape, dtype);
});
tf.setBackend("${backend}").then(() => run(${list(names.map((name) => `${name}()`))}));
function run(${list(names)}) {
  const found = [
    ${expression},
  ].flat();
  const told = found.map((y) => ({
    dtype: y.dtype, shape: y.shape, data: Buffer.from(y.dataSync().buffer).toString("base64"),
  }));
  console.error("TensorFlow.js", tf.version_core);
  process.stdout.write(JSON.stringify(told));
}
"""
def given(array):
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": array.shape, "data": data}
def read(array):
    return np.frombuffer(base64.b64decode(array["data"]), array["dtype"]).reshape(array["shape"])
arrays = {"x": x, **weights${back ? ', "upstream": upstream' : ""}}
sent = json.dumps({name: given(array) for name, array in arrays.items()})
run = subprocess.run(["node", "-e", program], input=sent, stdout=-1, text=True, check=True)
found = [read(array) for array in json.loads(run.stdout)]
${set}
`;
}
