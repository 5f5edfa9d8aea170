{
  buildPythonPackage,
  setuptools,
  torch,
}:
buildPythonPackage {
  pname = "edm";
  version = "0.1.0";
  pyproject = true;
  src = ./src;
  build-system = [ setuptools ];
  dependencies = [ torch ];
}
