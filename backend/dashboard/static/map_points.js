// Reads the points as the server sends them; the layout is described in map_points.py.
export const UNKNOWN = 255; // uncertainty that nobody asked for; class that nobody gave
export const OTHER = 254; // a class too rare for a number of its own

export function readPoints(buffer) {
  const head = new DataView(buffer);
  if (new TextDecoder().decode(new Uint8Array(buffer, 0, 4)) !== "ALM1") throw new Error("these are no points of a map");
  const count = head.getUint32(4, true);
  const length = head.getUint32(8, true);
  const description = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 12, length)));
  let at = 12 + length;
  const column = (type) => {
    const values = new type(buffer, at, count);
    at += values.byteLength;
    return values;
  };
  return {
    ...description,
    ids: column(Uint32Array),
    x: column(Float32Array),
    y: column(Float32Array),
    kind: column(Uint8Array),
    uncertainty: column(Uint8Array),
    class: column(Uint8Array),
  };
}
