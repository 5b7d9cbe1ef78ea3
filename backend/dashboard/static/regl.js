// regl comes as a script that sets a global; the scatter plot imports it as a module.
export default window.createREGL;
