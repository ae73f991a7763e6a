"""Reads an OpenAPI document as others' tools do: by openapi-spec-validator.

Input: a JSON file with the document. Output: a JSON array with what is wrong, empty where it is valid.
"""

import json
import pathlib
import sys

from openapi_spec_validator import OpenAPIV31SpecValidator

document = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
problems = [f"{list(error.absolute_path)}: {error.message}"
            for error in OpenAPIV31SpecValidator(document).iter_errors()]
print(json.dumps(problems))
